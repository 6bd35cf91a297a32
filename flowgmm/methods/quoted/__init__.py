"""Systems that the paper quotes from other papers, as estimators like the others."""
