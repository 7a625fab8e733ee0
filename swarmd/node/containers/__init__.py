"""What may be done to the containers of this node from outside, and how it is asked for."""
