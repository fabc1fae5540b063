"use strict";

// One way in: the id and the secret of a client. A token of one's own, and a user's session, are for programs and for
// the other pages; each would be a box of its own here.
function withOneWayIn(description) {
  description.components.securitySchemes = { client: description.components.securitySchemes.client };
  for (const path of Object.values(description.paths)) {
    for (const call of Object.values(path)) call.security = call.security?.filter((way) => "client" in way);
  }
  return description;
}

const settings = {
  url: "{{ schema_url|escapejs }}",
  dom_id: "#swagger-ui",
  ...{{ settings|safe }},
};
fetch(settings.url).then((answer) => answer.json()).then((description) => {
  const { url, ...others } = settings;
  const ui = SwaggerUIBundle({ ...others, spec: withOneWayIn(description) });
  ui.initOAuth({{ oauth2_config|safe }});
});
