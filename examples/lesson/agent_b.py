"""Agent B: a lawyer, at http://localhost:5001/chat."""

from orchestra.gateway import create_app

app = create_app("你是一名律师，精通法律法规与数据隐私保护，负责评估合规性、提出法律建议。", persona="lawyer")

if __name__ == "__main__":
    app.run(port=5001)
