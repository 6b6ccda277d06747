"""The main job of persicache, on the flights out of New York in 2013."""
