"""Serve with the strange worker: serve_strange.py ANNOUNCE DATA_DIR [option=value of QueueOptions ...]."""

import sys
from pathlib import Path

from engine.server.options import QueueOptions
from engine.server.serve import ServeOptions, serve

if __name__ == "__main__":
    worker_script = Path(__file__).with_name("strange_worker.py")
    settings = {name: float(value) for name, value in (item.split("=") for item in sys.argv[3:])}
    queue = QueueOptions(worker_command=(sys.executable, str(worker_script)), **settings)
    announce, data_dir = Path(sys.argv[1]), Path(sys.argv[2])
    sys.exit(serve(ServeOptions(announce=announce, data_dir=data_dir, parent_stdin=True, queue=queue)))
