"""Training in several processes (ranks): collective operations, data parallelism, and noticing a lost rank."""
