"""The demonstrations: what is a further modality worth inside a frozen text encoder?"""
