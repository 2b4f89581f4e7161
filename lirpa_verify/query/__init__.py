"""Queries of VNN-LIB 2.0: several networks and nonlinear terms as one network that the engine knows how to decide."""
