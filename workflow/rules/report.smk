# The report: one page of all that was made of a recipe. What the call itself makes it waits for; what
# else is there it shows as it is, and makes nothing anew for it.
rule report:
    input:
        lambda w: reported(),
    output:
        data=REPORT,
        page=f"{RESULTS}/report/index.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=20,
        changes=as_json(project.changes),
        repository=str(REPOSITORY),
        script=script("report"),
    params:
        spec=lambda w: content_hash(report_spec(project)),
        others=lambda w: beside(),
    shell:
        "trap '' TERM; python {resources.script:q} --changes {resources.changes:q} "
        "--repository {resources.repository:q} --data {output.data:q} --page {output.page:q} "
        "2> >(tee {log:q} >&2)"
