# Orchestra alone, without a model: docker-compose.yml puts it between Ollama and Open WebUI. What .dockerignore lets
# through is what the wheel is made of; the versions are those of the tests.

ARG PYTHON_IMAGE=python:3.11.14-slim-trixie

FROM ${PYTHON_IMAGE} AS made
# another package index, for mirrors; empty = pip's own
ARG PIP_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/orchestra
COPY . /source
RUN /opt/orchestra/bin/pip install --constraint /source/constraints.txt "/source[knowledge,serve]"

FROM ${PYTHON_IMAGE}
COPY --from=made /opt/orchestra /opt/orchestra
# a volume that is mounted over /data takes its owner over
RUN useradd --system --uid 10001 --create-home --home-dir /data orchestra
ENV PATH=/opt/orchestra/bin:$PATH ORCHESTRA_HOME=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
EXPOSE 5002
HEALTHCHECK --interval=10s --timeout=5s --retries=12 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 5002, timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["orchestra"]
CMD ["serve", "--host", "0.0.0.0", "--port", "5002"]
