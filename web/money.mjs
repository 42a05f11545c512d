// Amounts of money, as the owner's prices give them.

/** Signs of currencies that everybody knows; another currency is shown by its letters. */
const SIGNS = { CNY: "¥", USD: "$", EUR: "€" };

/** Return an amount of money as the reports say it (api/journal/runs/report.py): two decimals or none, below 1 up to
 * four. */
export function money(amount, currency) {
  const rounded = Number(Number(amount).toFixed(amount >= 1 ? 2 : 4));
  const digits = { useGrouping: false, minimumFractionDigits: Number.isInteger(rounded) ? 0 : 2, maximumFractionDigits: 4 };
  return `${SIGNS[currency] ?? `${currency} `}${new Intl.NumberFormat("en", digits).format(rounded)}`;
}
