/** Uses the API as its description says, and prints what came of it. */

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { env: Record<"BASE_URL" | "TOKEN_URL" | "CLIENT_ID" | "CLIENT_SECRET", string> };

type Event = components["schemas"]["Event"];

const { BASE_URL: baseUrl, TOKEN_URL, CLIENT_ID, CLIENT_SECRET } = process.env;
const order = { namespace: "TypeScript", name: "order" };
const event: Event = { ...order, timestamp: "2020-11-12T11:10:00Z", value: 142 };
const batch: Event[] = [
  { ...order, timestamp: "2020-W46-5", value: 58 },
  { ...order, timestamp: Date.UTC(2020, 10, 14), value: 1.5 },
];

async function getToken(): Promise<string> {
  const response = await fetch(new URL(TOKEN_URL, baseUrl), {
    method: "POST",
    headers: { Authorization: `Basic ${btoa(`${CLIENT_ID}:${CLIENT_SECRET}`)}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope: "read write aggregation" }),
  });
  return (await response.json()).access_token;
}

const headers = { Authorization: `Bearer ${await getToken()}` };
// An answer may be CSV too; what isn't asked for as text is JSON.
const api = createClient<paths, "application/json">({ baseUrl, headers });
const results: Record<string, unknown> = {};

function report(name: string, { response, data, error }: { response: Response; data?: unknown; error?: unknown }) {
  results[name] = [response.status, data ?? error ?? null];
}

report("an event", await api.POST("/api/track/", { body: event }));
const once = { "Idempotency-Key": "typescript-1" };
report("a batch", await api.POST("/api/track/", { body: batch, params: { header: once } }));
report("a batch again", await api.POST("/api/track/", { body: batch, params: { header: once } }));
report(
  "NDJSON",
  await api.POST("/api/track/", {
    body: batch.map((each) => JSON.stringify(each)).join("\n"),
    bodySerializer: (lines) => lines as string,
    headers: { "Content-Type": "application/x-ndjson" },
  }),
);
report(
  "a form",
  await api.POST("/api/track/", {
    body: { ...order, timestamp: "2020-11-15", value: "+.5e1" },
    bodySerializer: (form) => new URLSearchParams(form as Record<string, string>),
    headers: { "Content-Type": "application/x-www-form-urlencoded" },
  }),
);
report(
  "a multipart form",
  await api.POST("/api/track/", {
    body: { ...order, timestamp: 1605398400, value: 7 },
    bodySerializer: (form) => {
      const data = new FormData();
      Object.entries(form).forEach(([key, value]) => data.append(key, String(value)));
      return data;
    },
  }),
);

const path = "/api/events/{namespace}/{name}";
const aggregate = await api.GET(path, {
  params: {
    path: order,
    query: {
      tsMin: "2020-11-01",
      tsMax: Date.UTC(2020, 10, 30),
      granularity: "day",
      aggregationType: "sum",
      timezone: "Europe/Berlin",
    },
  },
});
report("an aggregate", aggregate);
const values: (number | null)[] = aggregate.data?.map((item) => item.value) ?? [];
results["its values"] = values;
const firstDay = { tsMax: "2020-11-12T23:59:59Z", format: "csv" } as const;
report("CSV", await api.GET(path, { params: { path: order, query: firstDay }, parseAs: "text" }));
const etag = aggregate.response.headers.get("ETag") ?? "";
const asked = Object.fromEntries(new URL(aggregate.response.url).searchParams);
report("the same", await api.GET(path, { params: { path: order, query: asked, header: { "If-None-Match": etag } } }));

report("the catalogue", await api.GET("/api/events/{namespace}", { params: { path: { namespace: "TypeScript" } } }));
const page = { limit: 1, after: "TypeScript/a", search: "ORDER" };
report("a page of it", await api.GET("/api/events/", { params: { query: page } }));

const refused = await api.POST("/api/track/", { body: { ...event, name: "" } });
report("a refused event", refused);
if (refused.error && "name" in refused.error) results["its name"] = refused.error.name;
report("a refused batch", await api.POST("/api/track/", { body: [event, { ...event, timestamp: "never" }] }));
report("a refused zone", await api.GET(path, { params: { path: order, query: { timezone: "Nowhere" } } }));
report("a wrong token", await api.GET("/api/events/", { headers: { Authorization: "Bearer x" } }));

// What is wrong is no TypeScript either; this is never called.
export async function wrong() {
  // @ts-expect-error: no such unit
  await api.GET(path, { params: { path: order, query: { granularity: "fortnight" } } });
  // @ts-expect-error: no value
  await api.POST("/api/track/", { body: { ...order, timestamp: 1 } });
  // @ts-expect-error: no name
  await api.GET(path, { params: { path: { namespace: "a" } } });
}

console.log(JSON.stringify(results));
