"""The families of conditional fields that a prior can be of: one file each."""
