// A page that shows how far something has come is read anew while it is seen.

setInterval(() => { if (!document.hidden && document.activeElement === document.body) location.reload(); }, 2000);
