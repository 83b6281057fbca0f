"""The table of subcommands. Heavy libraries are imported inside the commands, so that ``scion --help`` is quick."""

import typer

from scionwood.cli import (card, compare, doctor, entropy, export, fit, import_, lantern, lumen, memory, new, nla, pretrain,
                           publish, run, serve, show, verify)

app = typer.Typer(
    name="scion",
    help="Graft a small open language model onto one job, prove with numbers that the graft took, plant it on a small machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("show")(show.show)
app.command("verify")(verify.verify)
app.command("compare")(compare.compare)
app.command("card")(card.card)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("fit")(fit.fit)
app.command("publish")(publish.publish)
app.command("serve")(serve.serve)
app.command("entropy")(entropy.entropy)
app.command("doctor")(doctor.doctor)
app.command("new")(new.new)
app.command("pretrain")(pretrain.pretrain)
app.add_typer(memory.app, name="memory")
app.add_typer(lumen.app, name="lumen")
app.add_typer(lantern.app, name="lantern")
app.add_typer(nla.app, name="nla")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """What ``scion`` itself does with its own options; the command's help text is that of ``app``."""
    if version:
        from scionwood import __version__

        print(f"scionwood {__version__}")
        raise typer.Exit
