# Targets by name: figures, tables, the report, everything.


def figure(name):
    """The three files of a figure."""
    return [f"<results>/figures/{name}.{kind}" for kind in ("pdf", "png", "csv")]


def table(name):
    """The two files of a table."""
    return [f"<results>/tables/{name}.{kind}" for kind in ("csv", "tex")]


# `snakemake fig2`: a target a figure, named as in the catalogue.
for name, spec in ALL_FIGURES.items():

    rule:
        name:
            name
        input:
            figure(name),

    workflow.get_rule(name).docstring = f"{spec.title}. {spec.shows}"


rule controls:
    """How far the random sets are as active as the detectors."""
    input:
        table("controls"),


rule tableA1:
    """Table A1: statistics of the off-topic detectors."""
    input:
        table("tableA1"),


rule tables:
    """Every measure of every arm, replayed arms against the one they replay, models compared."""
    input:
        table("summary"),
        table("comparisons"),
        table("models"),


rule activation_tables:
    """Activations in episodes: regions, contrasts, single latents, lead time, hazard of a restart."""
    input:
        table("activation_regions"),
        table("activation_contrasts"),
        table("activation_latents"),
        table("activation_lead"),
        table("activation_hazards"),


rule exclusions:
    """Trials by status, for every model and arm."""
    input:
        table("exclusions"),


rule thresholds:
    """The threshold of every latent and target, and how the searches ended."""
    input:
        table("thresholds"),


rule recovery:
    """Recovery against its redraw null: what attempts after a restart add to a new draw."""
    input:
        table("recovery"),


rule robustness:
    """The main result under other choices; variance of restarts by latent and prompt."""
    input:
        table("robustness"),
        table("variance_components"),


rule corrected:
    """How far judges agree, and rates corrected for the primary judge's errors."""
    input:
        table("agreement"),
        table("corrected"),


rule introspection:
    """Self-report of injected directions (`introspection`): tables and Figure I1."""
    input:
        table("introspection"),
        table("self_report_thresholds"),
        figure("figI1"),


rule bridge:
    """What changes when one judge replaces another, on one sample (`agreement.bridge`)."""
    input:
        "<results>/tables/bridge.csv",


rule ledger:
    """What judges and raters cost, from their replies."""
    input:
        table("ledger"),


rule label_sheet:
    """A blinded sheet of responses for people to judge, as a table and as a page."""
    input:
        "<results>/agreement/label_sheet.csv",
        "<results>/agreement/label_sheet.html",


rule numbers:
    """Every number that a text can cite, as JSON and LaTeX macros."""
    input:
        "<results>/numbers.json",
        "<results>/numbers.tex",


rule scorecard:
    """Every claim, as measured, with a verdict."""
    input:
        "<results>/scorecard.csv",


rule dag:
    """Pictures of the graph: the study, and what each figure needs."""
    input:
        expand("<results>/graph/{name}.svg", name=GRAPHS),
        "<results>/graph/dependencies.csv",


rule report:
    """The report, a static site: open results/<study>/report/index.html."""
    input:
        "<results>/report",


rule rebuild_organisms:
    """Train the planted organisms, in results/organisms/; `--config study=rebuilt` measures them."""
    input:
        expand("results/organisms/{organism}/labels.csv", organism=ORGANISMS),


rule bundle:
    """The costly files in one archive: any checkout that imports it rebuilds the figures."""
    input:
        "<results>/bundle.tar.gz",


rule deposit:
    """What a paper's data statement points to: RO-Crate, dataset, model cards, logbook; no upload."""
    input:
        "<results>/deposit",


rule downloads:
    """Everything that needs a network before the first GPU job: environments, models, SAEs, labels, prompts."""
    input:
        downloads(),
