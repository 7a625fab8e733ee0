"""The builder's hands: copies files into layers, runs commands in containers, keeps contexts and caches."""
