"""The REST service: answers by look-up from the newest forecast table, held in memory."""
