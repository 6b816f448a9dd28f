"""The engine plays the game. It knows no disk, no names and no member of the zoo."""
