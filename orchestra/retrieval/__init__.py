"""3. Looking things up: searches, passages in the prompt, the pipeline, checked citations."""
