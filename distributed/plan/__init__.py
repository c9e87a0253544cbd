"""What a command is going to do: everything checked and looked up, nothing written yet."""
