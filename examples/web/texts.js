/** What the examples search. */
export const TEXTS = [
  "The cat sleeps on the warm roof.",
  "A train to Lyon leaves at noon from platform three.",
  "Charge the battery before the first ride.",
  "Boil the pasta for nine minutes in salted water.",
  "The museum is closed on Mondays.",
  "Our backup runs every night at two and keeps thirty days.",
  "Rain is expected in the north until Thursday.",
  "To reset the router, hold the button for ten seconds.",
  "She plays the violin in the city orchestra.",
  "Invoices are paid within two weeks.",
];
