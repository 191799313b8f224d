reconcile launch +16175550142 -- ./ingrid
