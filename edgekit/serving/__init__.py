"""`edgekit serve`: the page of export/web/ and one bundle's files, to the browser of this machine."""
