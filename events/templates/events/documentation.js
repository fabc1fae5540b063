"use strict";

const ui = SwaggerUIBundle({
  url: "{{ schema_url|escapejs }}",
  dom_id: "#swagger-ui",
  ...{{ settings|safe }},
});
ui.initOAuth({{ oauth2_config|safe }});
