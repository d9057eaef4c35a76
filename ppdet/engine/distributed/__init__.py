"""Training in several processes (ranks): collective operations, data parallelizm, and noticing a lost rank."""
