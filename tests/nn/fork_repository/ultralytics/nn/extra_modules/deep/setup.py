raise SystemExit("installs an operator")
