"""`transient`: which errors of the everyday clients pass, told without importing any of them.

`answer` is what is known of an error, `delays` reads what a server asks for, `statuses` judges
HTTP, `databases` codes of SQL, `libraries` is the table of classes, `policy` is the face.
"""
