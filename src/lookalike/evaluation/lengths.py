"""The names of metrics of embeddings that were cut, such as "map_at_r_length_64"."""

AT_LENGTH = "_length_"  # between the metric's own name and the length
