"""Agent C: the standardization expert, to whom A and B are tools, at http://localhost:5002/integrate.

    curl -X POST http://localhost:5002/integrate -H "Content-Type: application/json" \\
         -d '{"task": "制定人工智能合规标准，避免人工智能伤害人类"}'
"""

from orchestra.gateway import create_app

experts = ["computer_scientist=http://localhost:5000", "lawyer=http://localhost:5001"]
app = create_app(coordinator="standardization_expert", experts=experts)

if __name__ == "__main__":
    app.run(port=5002)
