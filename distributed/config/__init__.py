"""What users write down, checked: unknown keys and impossible values are refused in one line."""
