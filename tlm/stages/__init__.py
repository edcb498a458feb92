"""The stages as the store sees them: read input artifacts, call the library's plain function, write output files.

Every function here has the signature `(job: Job) -> facts`. What a stage *does* is in the module of its name
(`tlm.data.corpus`, `tlm.data.overlap`, `tlm.data.injection`, …), over arrays and tables, for a notebook to call.
"""
