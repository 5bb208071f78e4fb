"""Raw media and table columns made into arrays that a modality adapter can take."""

from mmadapters.features.tabular import TabularEncoder

__all__ = ["TabularEncoder"]
