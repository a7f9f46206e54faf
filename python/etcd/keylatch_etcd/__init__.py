"""The compiled half of keylatch, with locks between machines; import `keylatch` instead."""
