module example.org/keylatch

go 1.25
