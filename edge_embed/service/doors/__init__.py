"""APIs that clients of others speak: OpenAI's, Ollama's, Cohere's and that of text-embeddings-inference."""
