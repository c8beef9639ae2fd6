"""Connect Four solved by BitBully (https://github.com/MarkusThill/BitBully), a search with an opening book."""

from typing import Any

import numpy as np


class ConnectFourSolver:
    """Most positions take milliseconds; those of plies 12 to 16, just out of the book, up to seconds.

    Raises:
        ValueError: BitBully is not installed.
    """

    def __init__(self):
        try:
            from bitbully import BitBully, Board
        except ImportError:
            raise ValueError("the solver of connect_four needs BitBully: pip install 'jaxzero[engines]'") from None
        self.search, self.board = BitBully(), Board

    def state_values(self, state: Any) -> dict[int, int]:
        """The value for the mover of each legal column: 1 won, 0 drawn, -1 lost; a live position."""
        bits = np.asarray(state.stones)[..., None] >> np.arange(6) & 1  # [2, 7, 6], from the left and from below
        scores = self.search.score_all_moves(self.board((bits[0] + 2 * bits[1]).tolist()))
        return {column: int(np.sign(score)) for column, score in scores.items()}
