"""Agent A: a computer scientist, at http://localhost:5000/chat."""

from orchestra.gateway import create_app

app = create_app("你是一名计算机科学家，精通人工智能技术，负责提出技术实施建议、解决技术难题。", persona="computer_scientist")

if __name__ == "__main__":
    app.run(port=5000)
