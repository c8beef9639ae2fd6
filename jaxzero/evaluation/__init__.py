"""How strong a player is: matches against opponents, and every line of replies in small games."""
