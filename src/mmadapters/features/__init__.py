"""Raw media and table columns made into arrays that a modality adapter can take.

It imports nothing: workers that decode media start faster without pandas.
"""
