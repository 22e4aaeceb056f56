"""1. Talking to the model: messages, the wire, the client, what ends an answer."""
