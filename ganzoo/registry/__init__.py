"""Parts by name: found through pluggy, loaded inside a guard, checked against the contract, combined into recipes."""
