"""The scripts of this field: speed, profiles, heat maps, tables, data sets in other forms. A file is a command."""
