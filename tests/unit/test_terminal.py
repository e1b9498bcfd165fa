from rich.table import Table

from car_damage.commands.terminal import plain, wide_enough

PATH = "/data/[red]claims[/red]/[2026]/:car:/" + "a" * 60


def test_a_path_is_printed_whole_whatever_rich_would_make_of_it(capsys):
    table = Table("folder")
    table.add_row(PATH)
    wide_enough().print(table)
    plain().print(f"the folder is {PATH}", soft_wrap=True)
    assert capsys.readouterr().out.count(PATH) == 2
