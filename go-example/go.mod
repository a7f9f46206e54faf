module example.com/keylatch

go 1.25
