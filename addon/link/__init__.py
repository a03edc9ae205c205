"""The engine, seen from a client: its connection, its wire, its jobs. Neither Blender nor anything above this room."""
