"""What can be chosen about a proof: by the command line and by `Options`."""

METHODS = ("auto", "ibp", "crown", "forward", "alpha-crown", "input-split", "activation-split")
DEVICES = ("auto", "cpu", "cuda")
