"""`jaxzero data`: games and positions on disk, a command a stage."""

from cyclopts import App

from jaxzero.cli import positions, stored_games

data = App(name="data", help="Games and positions on disk, stage by stage.", help_format="plaintext")
data.command(stored_games.generate)
data.command(stored_games.import_, name="import")
data.command(stored_games.export)
data.command(stored_games.clean)
data.command(stored_games.verify)
data.command(stored_games.stats)
data.command(positions.convert)
data.command(positions.shuffle)
