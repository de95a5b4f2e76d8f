"""Two small stages with the manners of the real ones, to test the machinery that runs pipelines."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Output


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def write(config: dict, digest: str, output: Output[Artifact]):
    import subprocess
    import sys
    import time
    from pathlib import Path

    from fairlead.errors import DataError
    from fairlead.events import result
    from fairlead.stage import stage

    @stage("write")
    def run() -> None:
        if config.get("mistake"):
            raise DataError(f"write: {config['mistake']}; correct it")
        folder = Path(output.path)
        folder.mkdir(parents=True)
        if config.get("hang"):
            # As torch does: a process in a session of its own.
            rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
            Path(config["hang"]).write_text(str(rank.pid))
            time.sleep(300)
        (folder / "text").write_text(config["text"])
        print("a line of the child")
        result("write", {"letters": len(config["text"])})

    run()


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def measure(text: Input[Artifact], config: dict, output: Output[Artifact], metrics: Output[Metrics]):
    import os
    import signal
    from pathlib import Path

    from fairlead.errors import IntegrityError
    from fairlead.stage import stage

    @stage("measure")
    def run() -> None:
        if config.get("crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        path = Path(text.path) / "text"
        if not path.is_file():
            raise IntegrityError(f"{path}: it is missing; write it again")
        metrics.log_metric("letters", len(path.read_text()))
        Path(output.path).mkdir(parents=True)

    run()


@dsl.pipeline(name="tiny")
def tiny(project: str, write_config: dict, digest: str = "", measure_config: dict = {}):  # noqa: B006
    written = write(config=write_config, digest=digest)
    measure(text=written.outputs["output"], config=measure_config)
