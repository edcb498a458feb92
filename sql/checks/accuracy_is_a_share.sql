-- Every measured accuracy lies between 0 and 1.
select
    key,
    rule,
    accuracy
from results
where accuracy is null or not accuracy between 0 and 1
