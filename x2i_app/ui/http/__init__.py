"""The layer in front of Gradio's routes: request checks, uploads, login protection, and the MCP server."""
