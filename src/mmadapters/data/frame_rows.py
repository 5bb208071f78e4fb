"""Rows of a data frame as a source that is read run by run, so that only the frame itself is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from mmadapters.data.row_source import CHUNK_ROWS, Piece
from mmadapters.features.table_columns import require_columns

_ROWS_A_PIECE = 16 * CHUNK_ROWS


class FrameRows:
    """The rows of a frame, in pieces of some thousand that follow one another; see ``RowSource``.

    Args:
        frame: The rows; they must not change.
    """

    readable_in_workers = False
    """A frame would be copied into each of them."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        starts = range(0, len(frame), _ROWS_A_PIECE)
        self.pieces = [Piece("the rows", min(_ROWS_A_PIECE, len(frame) - start), start) for start in starts]

    def names(self) -> list[str]:
        """Return the names of the columns."""
        return [str(name) for name in self._frame.columns]

    def read(self, piece: int, columns: Sequence[str], skip: int = 0) -> Iterator[pd.DataFrame]:
        """Yield the rows of a piece, with the index that they have."""
        require_columns(self._frame, columns)
        part = self.pieces[piece]
        end = part.first_row + (part.rows or 0)
        for start in range(part.first_row + skip, end, CHUNK_ROWS):
            rows = self._frame.iloc[start : min(start + CHUNK_ROWS, end)].loc[:, list(columns)]
            rows.attrs = self._frame.attrs
            yield rows
