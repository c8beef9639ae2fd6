"""Games and positions on disk: shards of games, and the stages that clean, convert, shuffle and read them."""
