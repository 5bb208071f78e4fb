"""Files of a repository on the Hugging Face Hub: which there are, how they come here, how they go there.

This part knows nothing of what is in them. Errors of the Hub and of the way to it become one line each.
"""
