"""Parts by name: found through pluggy, loaded in a guard, checked against the contract, made into recipes."""
