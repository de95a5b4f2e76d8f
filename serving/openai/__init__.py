"""OpenAI's API, as far as it fits these models: completions of language models, embeddings of encoders, the list."""
