"""The web page on which a trained model is tried out: what it asks for, what it answers, and the server."""
